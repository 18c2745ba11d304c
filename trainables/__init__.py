from trainables.lean_imports import put_off_imports

put_off_imports()
