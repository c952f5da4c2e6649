const std = @import("std");
const stats = @import("stats.zig");

pub fn main() !void {
    var memory: [4096]u8 = undefined;
    var reader = std.fs.File.stdin().reader(&memory);
    var summary = stats.Summary{};
    while (reader.interface.takeDelimiterExclusive('\n')) |line| {
        reader.interface.toss(1);
        summary.add(try std.fmt.parseFloat(f64, line));
    } else |_| {}

    var text: [256]u8 = undefined;
    const printed = try summary.print(&text);
    try std.fs.File.stdout().writeAll(printed);
    try std.fs.cwd().writeFile(.{ .sub_path = "summary.txt", .data = printed });
}
