// The world `words` in JavaScript: built by jco.

export function count(text) {
  const counts = new Map();
  for (const word of text.toLowerCase().match(/[^\s,.:;!?]+/g) ?? []) {
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const order = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : a > b ? 1 : 0));
  return order.map(([word, times]) => ({ word, times }));
}
