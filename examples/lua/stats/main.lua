local stats = require("lib.stats")

local values = {}
for line in io.lines() do
  values[#values + 1] = tonumber(line)
end
local summary = stats.summarise(values)
io.write(summary)
local file = assert(io.open("summary.txt", "w"))
file:write(summary)
file:close()
