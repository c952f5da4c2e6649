use strict;
use warnings;

print "Hello from Perl\n";
