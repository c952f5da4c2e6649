use strict;
use warnings;

use Stats qw(summarise);

chomp(my @values = <STDIN>);
my $summary = summarise(@values);
print $summary;
open(my $file, '>', 'summary.txt') or die "summary.txt: $!";
print $file $summary;
