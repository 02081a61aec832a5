"""The last import of the server in ``trials``; pytest does not import it, as its name says.

Processes of that server share the memory of what it has imported, as long as no process writes to
it. The garbage collector would.
"""

import gc

gc.collect()
gc.freeze()
