"""Ways of learning, one flat file each. A name in a config is the file's module path."""
