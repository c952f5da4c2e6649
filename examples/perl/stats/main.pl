use strict;
use warnings;

use Stats qw(summarise);

chomp(my @values = <STDIN>);
print summarise(@values);
