"""A trained policy as a folder, and behind the bridge's PolicyService. Needs pip install "jaxrl[serve]"."""
