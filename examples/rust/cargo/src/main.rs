fn main() {
    let sides: Vec<f64> = std::env::args().skip(1).map(|side| side.parse().unwrap()).collect();
    println!("{}", hypotenuse::hypotenuse(sides[0], sides[1]));
}
