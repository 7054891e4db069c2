// Package inflate reads compressed bodies beside the data path. The relay gives a Stream a copy of each piece that has
// passed; a goroutine inflates the pieces and shows what was in them, with the stamps of the pieces. The relay never waits
// for it. One exchange's Stream holds at most 1 MiB; what does not fit, what is damaged and what inflates without end is
// given up, and Wait says so.
package inflate
