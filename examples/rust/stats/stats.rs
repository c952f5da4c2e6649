use std::fmt;

pub struct Summary {
    count: usize,
    sum: f64,
}

impl Summary {
    pub fn of(values: &[f64]) -> Self {
        Self { count: values.len(), sum: values.iter().sum() }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = self.sum / self.count as f64;
        write!(f, "count {}\nsum {}\nmean {mean:.2}\n", self.count, self.sum)
    }
}
