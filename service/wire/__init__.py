"""HTTP around the edge: connections, heads and bodies, the door, headers, ports, the way out."""
