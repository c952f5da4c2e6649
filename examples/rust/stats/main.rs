mod stats;

use std::io::Read as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let values: Vec<f64> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
    let summary = stats::Summary::of(&values).to_string();
    print!("{summary}");
    std::fs::write("summary.txt", summary)?;
    Ok(())
}
