// The same everywhere: no clock, no randomness, no machine.
const words = "to be or not to be".split(" ");
const counts = new Map();
for (const word of words) counts.set(word, (counts.get(word) || 0) + 1);
console.log(JSON.stringify([...counts]));
console.log(String(2n ** 200n), [..."gr\u00fc\u00dfe"].length, 0.1 + 0.2);
console.log(JSON.stringify({ sorted: [10, 9, 1].sort(), date: new Date(86400000).toISOString() }));
const primes = [];
for (let n = 2; primes.length < 1000; n++) if (primes.every((p) => n % p)) primes.push(n);
console.log(primes.at(-1), "abcabc".replace(/b(?<c>c)/g, "[$<c>]"));
function* squares() { for (let i = 0; i < 5; i++) yield i * i; }
Promise.resolve([...squares()]).then((all) => console.log(all.join(" ")));
