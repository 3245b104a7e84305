"""Local shedding: rules as pure functions from the process image to safety claims."""
