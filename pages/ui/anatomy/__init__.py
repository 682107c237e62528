"""Parts of the page Anatomy: the inside of the network, layer by layer."""
