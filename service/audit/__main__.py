"""python -m service.audit verify | export | seal | upgrade"""

from service.audit.commands import main

main()
