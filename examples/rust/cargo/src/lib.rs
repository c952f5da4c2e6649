pub fn hypotenuse(a: f64, b: f64) -> f64 {
    a.hypot(b)
}
