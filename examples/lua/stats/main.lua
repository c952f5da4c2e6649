local stats = require("lib.stats")

local values = {}
for line in io.lines() do
  values[#values + 1] = tonumber(line)
end
io.write(stats.summarise(values))
