package energy

import "math"

// unknowns is the most coefficients that one fit has.
const unknowns = 3

// normal holds the normal equations of a weighted least-squares problem: minimise
// theta' A theta - 2 b' theta + yy.
type normal struct {
	A  [unknowns][unknowns]float64
	B  [unknowns]float64
	YY float64
}

// add adds one observation y = x' theta with weight w.
func (n *normal) add(x [unknowns]float64, y, w float64) {
	for i := range x {
		for j := range x {
			n.A[i][j] += w * x[i] * x[j]
		}
		n.B[i] += w * x[i] * y
	}
	n.YY += w * y * y
}

// scale multiplies every past observation's weight, so that old ones fade.
func (n *normal) scale(f float64) {
	for i := range n.A {
		for j := range n.A[i] {
			n.A[i][j] *= f
		}
		n.B[i] *= f
	}
	n.YY *= f
}

// nonNegative returns the exact least-squares solution without negative unknowns. It tries all sets of unknowns that
// may be positive and takes the best feasible solution (Lawson and Hanson's active-set method visits a few of
// the same sets).
func (n *normal) nonNegative() [unknowns]float64 {
	var best [unknowns]float64
	bestCost := n.YY
	for set := 1; set < 1<<unknowns; set++ {
		theta, ok := n.solve(set)
		if !ok {
			continue
		}
		if c := n.cost(theta); c < bestCost {
			best, bestCost = theta, c
		}
	}
	return best
}

// solve solves for the unknowns in set, the others being zero; ok is false where it is singular or
// one comes out negative.
func (n *normal) solve(set int) (theta [unknowns]float64, ok bool) {
	theta, ok = n.solveAny(set)
	for _, v := range theta {
		ok = ok && v >= 0
	}
	return theta, ok
}

// solveAny is solve with any sign: Gauss with pivoting on at most three rows.
func (n *normal) solveAny(set int) (theta [unknowns]float64, ok bool) {
	var idx [unknowns]int
	m := 0
	for i := range unknowns {
		if set&(1<<i) != 0 {
			idx[m] = i
			m++
		}
	}
	var a [unknowns][unknowns + 1]float64
	for i := range m {
		for j := range m {
			a[i][j] = n.A[idx[i]][idx[j]]
		}
		a[i][m] = n.B[idx[i]]
	}
	for c := range m {
		p := c
		for r := c + 1; r < m; r++ {
			if math.Abs(a[r][c]) > math.Abs(a[p][c]) {
				p = r
			}
		}
		a[c], a[p] = a[p], a[c]
		if math.Abs(a[c][c]) < 1e-30 {
			return theta, false
		}
		for r := range m {
			if r == c {
				continue
			}
			f := a[r][c] / a[c][c]
			for j := c; j <= m; j++ {
				a[r][j] -= f * a[c][j]
			}
		}
	}
	for i := range m {
		v := a[i][m] / a[i][i]
		if math.IsNaN(v) {
			return theta, false
		}
		theta[idx[i]] = v
	}
	return theta, true
}

func (n *normal) cost(t [unknowns]float64) float64 {
	c := n.YY
	for i := range t {
		for j := range t {
			c += t[i] * n.A[i][j] * t[j]
		}
		c -= 2 * n.B[i] * t[i]
	}
	return c
}

// inverse returns the inverse of A; rows and columns of unknowns without observations are zero.
func (n *normal) inverse() (inv [unknowns][unknowns]float64) {
	set := 0
	for i := range unknowns {
		if n.A[i][i] > 0 {
			set |= 1 << i
		}
	}
	for c := range unknowns {
		if set&(1<<c) == 0 {
			continue
		}
		unit := normal{A: n.A}
		unit.B[c] = 1
		col, ok := unit.solveAny(set)
		if !ok {
			return [unknowns][unknowns]float64{}
		}
		for r := range col {
			inv[r][c] = col[r]
		}
	}
	return inv
}
