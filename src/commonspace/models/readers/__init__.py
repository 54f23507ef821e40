"""Readers of weights that come in packages: the bytes of a file in, tensors under common names out.

No reader runs code of a package or unpickles without `weights_only`.
"""
