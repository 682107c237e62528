"""Questions to an unconditional model: what is missing here, what comes next, is this normal?"""
