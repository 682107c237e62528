"""Parts of the page Live: canvas, socket, policy form, result card."""
