"""Git in and out: what the documents of a revision mean, what may be applied or removed, what must be written back."""
