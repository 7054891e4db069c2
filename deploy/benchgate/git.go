package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// errNoBase: there is no earlier commit to compare with.
var errNoBase = errors.New("there is no commit to compare with")

// repo is the working tree's repository.
type repo struct{ root string }

// base is the commit that the tree is compared with, and why that one.
type base struct{ commit, why string }

func openRepo(ctx context.Context, dir string) (*repo, error) {
	root, err := git(ctx, dir, nil, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("this must be a git checkout: %w", err)
	}
	return &repo{root: root}, nil
}

// git returns what git prints, without the last newline.
func git(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...) //nolint:gosec // our own arguments, and the user's ref
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimRight(string(out), "\n"), nil
}

func (r *repo) commit(ctx context.Context, ref string) (string, error) {
	return git(ctx, r.root, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
}

// findBase is the merge base of HEAD and ref, or of HEAD and main. On main itself it is the last commit if the tree has
// uncommitted changes, and else the one before.
func (r *repo) findBase(ctx context.Context, ref string) (*base, error) {
	head, err := r.commit(ctx, "HEAD")
	if err != nil {
		return nil, fmt.Errorf("%w: this repository has none", errNoBase)
	}
	refs := []string{"origin/HEAD", "origin/main", "main"}
	if ref != "" {
		if _, err := r.commit(ctx, ref); err != nil {
			return nil, fmt.Errorf("there is no commit %q here: fetch it first", ref)
		}
		refs = []string{ref}
	}
	for _, name := range refs {
		if _, err := r.commit(ctx, name); err != nil {
			continue
		}
		at, err := git(ctx, r.root, nil, "merge-base", "HEAD", name)
		if err != nil {
			return nil, fmt.Errorf("%w: HEAD and %s have no common commit here%s", errNoBase, name, r.shallow(ctx))
		}
		if at != head || ref != "" {
			return &base{at, "the merge base with " + name}, nil
		}
		break
	}
	changed, err := git(ctx, r.root, nil, "status", "--porcelain")
	if err != nil {
		return nil, err
	}
	if changed != "" {
		return &base{head, "the last commit; there are uncommitted changes"}, nil
	}
	before, err := r.commit(ctx, "HEAD^1")
	if err != nil {
		return nil, fmt.Errorf("%w: HEAD has no parent here%s", errNoBase, r.shallow(ctx))
	}
	return &base{before, "the commit before HEAD, which is on main or has no main beside it"}, nil
}

// shallow says what to do about a clone without the whole history.
func (r *repo) shallow(ctx context.Context) string {
	if is, err := git(ctx, r.root, nil, "rev-parse", "--is-shallow-repository"); err == nil && is == "true" {
		return "; this is a shallow clone: fetch more (git fetch --unshallow), or clone with a depth that reaches the base"
	}
	return ""
}

// checkout writes a commit's files below dir. It touches neither the repository nor its index: index is a file of ours.
func (r *repo) checkout(ctx context.Context, commit, dir, index string) error {
	env := []string{"GIT_INDEX_FILE=" + index}
	if _, err := git(ctx, r.root, env, "read-tree", commit); err != nil {
		return err
	}
	_, err := git(ctx, r.root, env, "checkout-index", "--all", "--prefix="+dir+"/")
	return err
}

// trailer is how a commit message says why something costs more.
const trailer = "Bench-Gate"

// reasons reads the trailers of the commits behind base, by the unit that each names.
func (r *repo) reasons(ctx context.Context, base string) (map[string]string, error) {
	text, err := git(ctx, r.root, nil, "log", "--format=%h%x00%(trailers:key="+trailer+",valueonly,unfold,separator=%x00)", base+"..HEAD")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), "\x00")
		for _, value := range fields[1:] {
			unit, why, _ := strings.Cut(value, ":")
			why = strings.TrimSpace(why)
			switch {
			case value == "":
			case !slices.Contains(units, unit) || why == "":
				return nil, fmt.Errorf("commit %s says %q: write %s: %s: REASON", fields[0], trailer+": "+value, trailer, strings.Join(units, " or "))
			default:
				out[unit] = why + " (" + fields[0] + ")"
			}
		}
	}
	return out, nil
}
