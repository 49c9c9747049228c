"""One file a kind of task: which columns it reads, and how a bundle answers a row of them."""
