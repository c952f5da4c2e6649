require_relative "lib/stats"

puts Stats.new($stdin.each_line.map(&:to_f))
