const std = @import("std");

pub const Summary = struct {
    count: usize = 0,
    sum: f64 = 0,

    pub fn add(self: *Summary, value: f64) void {
        self.count += 1;
        self.sum += value;
    }

    pub fn print(self: Summary, text: []u8) ![]u8 {
        const mean = self.sum / @as(f64, @floatFromInt(self.count));
        return std.fmt.bufPrint(text, "count {d}\nsum {d}\nmean {d:.2}\n", .{ self.count, self.sum, mean });
    }
};
