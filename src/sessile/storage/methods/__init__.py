"""The methods of `Storage`, by topic: each as synchronous callers call it, and next to it as asynchronous ones do.

What they do is written once, in the operations of `sessile.storage` (`reads`, `writes`, `branches`, …). Here stand
their public signatures and texts, where `help()`, editors and generators of references find them.
"""
