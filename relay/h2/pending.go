package h2

// Pending is DATA that an owner keeps for a reader of its own, in the Memory of its connection, which is the m of all methods. The
// zero Pending is empty. Whoever drops one calls Clear, so that the memory comes back.
type Pending struct{ queue queue }

// Add copies p to the end.
func (d *Pending) Add(m *Memory, p []byte) { d.queue.add(m, p) }

// Read moves the first bytes to p, as many as there are and p has room for, and returns how many.
func (d *Pending) Read(m *Memory, p []byte) int {
	n := min(len(p), d.queue.n)
	d.queue.take(m, p[:0], n)
	return n
}

// Len returns how many bytes there are.
func (d *Pending) Len() int { return d.queue.n }

// IsStuck is as Stream.IsStuck.
func (d *Pending) IsStuck() bool { return d.queue.isStuck() }

// Clear drops all bytes, and returns how many there were.
func (d *Pending) Clear(m *Memory) int { return d.queue.clear(m) }
