import sys

import helpers.text
import near

print(helpers.text.shout("tea"), near.NAME)
print(sys.path[:2])
