"""The site with the documentation: `python -m website` builds it from README.md, docs/, examples/ and the code."""
