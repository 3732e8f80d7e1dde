"""The network of an architecture: trained, tested, saved, put to use."""
