"""Other people's environments: brax's and mujoco_playground's as `Env`, gymnasium's as `HostEnv`.

Each module needs the package that it is named after: pip install "jaxrl[adapters]".
"""
