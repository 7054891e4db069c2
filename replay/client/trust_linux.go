package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// helpCommand is the command that prints the program's --help: its arguments and environment. Nothing of the process but
// the paths of its libraries is taken over, and every path must be trusted.
func (p *serverProcess) helpCommand(uid int) (args, env []string, err error) {
	paths := []string{p.path}
	env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	for i := 0; i < len(p.loader); i++ {
		a := p.loader[i]
		switch {
		case a == "--library-path" && i+1 < len(p.loader):
			i++
			paths = append(paths, filepath.SplitList(p.loader[i])...)
		case i == len(p.loader)-1:
			paths = append(paths, a)
		default:
			return nil, nil, fmt.Errorf("%w: its loader was given %q", ErrForeign, a)
		}
	}
	if at := slices.IndexFunc(p.env, func(v string) bool { return strings.HasPrefix(v, "LD_LIBRARY_PATH=") }); at >= 0 {
		_, list, _ := strings.Cut(p.env[at], "=")
		// An empty entry is the working directory; the programs that are meant here are linked to whole paths.
		folders := slices.DeleteFunc(filepath.SplitList(list), func(d string) bool { return d == "" })
		paths = append(paths, folders...)
		env = append(env, "LD_LIBRARY_PATH="+strings.Join(folders, ":"))
	}
	for _, path := range paths {
		switch err := trusted(path, uid); {
		case errors.Is(err, fs.ErrNotExist): // deleted, or a path inside of a container
			return nil, nil, errors.Join(ErrNoProgram, err)
		case err != nil:
			return nil, nil, fmt.Errorf("%w: %w", ErrForeign, err)
		}
	}
	return append(slices.Clone(p.loader), "--help"), env, nil
}

// trusted returns nil where only root and the user uid can replace or write the file or folder at path: they own it
// and every folder above it, also behind symbolic links.
func trusted(path string, uid int) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is a relative path", path)
	}
	for _, at := range []string{filepath.Clean(path), resolved(path)} {
		for ; ; at = filepath.Dir(at) {
			if err := trustedEntry(at, uid); err != nil {
				return err
			}
			if at == "/" {
				break
			}
		}
	}
	return nil
}

// resolved is path without symbolic links, or path itself where that fails.
func resolved(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return path
}

func trustedEntry(path string, uid int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s is not known", path)
	}
	if st.Uid != 0 && int(st.Uid) != uid {
		return fmt.Errorf("%s belongs to user %d, neither root nor user %d who would run it", path, st.Uid, uid)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		return nil // its mode says nothing
	}
	// In a sticky folder (/tmp) others cannot replace what they do not own. A group with the number of its user is
	// that user's own.
	others := info.Mode().Perm()&0o002 != 0 || info.Mode().Perm()&0o020 != 0 && st.Gid != st.Uid
	if others && !(info.IsDir() && info.Mode()&os.ModeSticky != 0) {
		return fmt.Errorf("%s can be written by others (mode %v)", path, info.Mode())
	}
	return nil
}
