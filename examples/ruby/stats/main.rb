require_relative "lib/stats"

stats = Stats.new($stdin.each_line.map(&:to_f))
puts stats
File.write("summary.txt", stats.to_s)
