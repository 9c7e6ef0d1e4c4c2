"""An application that is not at the root of its site, said by the variable that gunicorn reads."""

workers = 1
threads = 2
raw_env = ["SCRIPT_NAME=/shop"]
