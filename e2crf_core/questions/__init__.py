"""Ask an unconditional model questions: what is missing here, what comes next, is this normal?"""
