"""What released versions have stored, kept so that all later ones are tested to read it.

`python -m tests.releases` writes the folder of the version at hand; it is run once for each release, and then stays.
"""
