export interface Summary {
  count: number;
  sum: number;
  mean: number;
}

export function summarise(values: readonly number[]): Summary {
  const sum = values.reduce((total, value) => total + value, 0);
  return { count: values.length, sum, mean: sum / values.length };
}
