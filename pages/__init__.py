"""Pages of the lab; `main.py` is the script that `app.py` serves."""
