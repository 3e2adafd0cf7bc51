"""A data set prepared once, so that any step of any episode is read at once: numpy files, and images behind each other as they are.

<folder>/plan.json               what is prepared, from where, in how many shards; there from the beginning
<folder>/shard-00000/            a range of episodes, whole or not there
    episodes.json                their names, metadata, texts, and what was left out
    lengths.npy, hashes.npy      steps [E] int32, and hashes of their contents [E, 16] uint8
    array.<column>.npy           [steps, ...]
    image.<column>.bin, .npy     encoded images, and where each begins [steps + 1] int64
    text.<column>.npy            [steps] int32, which of the shard's texts
<folder>/index.npz               lengths and hashes of all shards
<folder>/cache.json              written last: the cache is whole
"""
