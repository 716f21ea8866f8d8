package app

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

func newRouteEditCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	cmd := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change a route in an editor",
		Long: `Open a route in the editor that $VISUAL or $EDITOR names, else vi, and store it when the editor ends. A bad document that
somebody wrote by other means can be mended so.

Nothing is stored if nothing changed, if the text is not valid, or if somebody else changed the route meanwhile; in the
last two cases the text stays in a file that the message names. --timeout is for what etcd does, not for the editor.`,
		Example: `  framegate route edit echo
  EDITOR="code --wait" framegate route edit echo`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			var text []byte
			var revision int64
			err := withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Routes) (err error) {
				text, revision, err = documentOf(ctx, s, name)
				return err
			})
			if errors.Is(err, etcdstore.ErrNotFound) {
				return etcd.notFound(name)
			}
			if err != nil {
				return err
			}
			d, err := newDraft(text)
			if err != nil {
				return err
			}
			edited, err := d.edit(cmd)
			if err != nil {
				return d.keep(err)
			}
			if bytes.Equal(edited, text) {
				d.drop()
				return writeChanges(cmd.OutOrStdout(), &out, []routeChange{{name, string(match.Unchanged), revision}})
			}
			result, err := storeDraft(cmd, &etcd, &out, name, edited, revision)
			if err != nil {
				return d.keep(err)
			}
			d.drop()
			return writePut(cmd.OutOrStdout(), &out, []etcdstore.PutResult{result})
		},
	}
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

// documentOf returns the text of a route in etcd, good or bad, and its revision.
func documentOf(ctx context.Context, s *etcdstore.Routes, name string) ([]byte, int64, error) {
	r, err := s.Get(ctx, name)
	var bad *etcdstore.DocumentError
	if errors.As(err, &bad) {
		return bad.Document, bad.Revision, nil
	}
	if err != nil {
		return nil, 0, err
	}
	text, err := r.Route.Encode()
	return text, r.Revision, err
}

// storeDraft parses text and puts the route, unless somebody has changed it since revision.
func storeDraft(cmd *cobra.Command, etcd *etcdFlags, out *outputFlag, name string, text []byte, revision int64) (result etcdstore.PutResult, err error) {
	r, err := spec.ParseRoute(text)
	if err == nil && r.Name != name {
		err = fmt.Errorf("name: %q, want %q: to rename a route, put it under the new name and delete the old one", r.Name, name)
	}
	if err != nil {
		return result, fmt.Errorf("route %s: %w", name, err)
	}
	err = withRoutes(cmd, etcd, out, func(ctx context.Context, s *etcdstore.Routes) error {
		if result, err = s.Put(ctx, r, etcdstore.IfRevision(revision)); err == nil {
			warnOf(ctx, cmd, s, []*spec.Route{r})
		}
		return err
	})
	return result, err
}

// draft is a temporary file with a text that the user edits. In the end, its owner calls drop or keep.
type draft struct {
	path string
	text []byte // before the edit
}

func newDraft(text []byte) (*draft, error) {
	f, err := os.CreateTemp("", "framegate-route-*.yaml") // readable by its user only
	if err != nil {
		return nil, err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return nil, err
	}
	return &draft{path: f.Name(), text: text}, nil
}

// editorPatience is how long an editor may take to end after SIGTERM, before it is killed.
const editorPatience = 5 * time.Second

// edit runs the editor on the file and returns the text that it leaves. The end of the command's context ends the editor.
func (d *draft) edit(cmd *cobra.Command) ([]byte, error) {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	run := exec.CommandContext(cmd.Context(), "sh", "-c", editor+` "$1"`, editor, d.path) // sh, because the variable may have arguments
	run.Stdin, run.Stdout, run.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGTERM) } // not SIGKILL: the editor must restore the terminal
	run.WaitDelay = editorPatience
	if err := run.Run(); err != nil {
		return nil, fmt.Errorf("editor %q: %w", editor, err)
	}
	return os.ReadFile(d.path)
}

func (d *draft) drop() { _ = os.Remove(d.path) }

// keep returns err with the path of the file, in which the user's text stays. If the user has changed nothing, it removes
// the file and says that nothing was stored.
func (d *draft) keep(err error) error {
	if now, readErr := os.ReadFile(d.path); readErr != nil || bytes.Equal(now, d.text) {
		d.drop()
		return fmt.Errorf("%w; nothing was stored", err)
	}
	return fmt.Errorf("%w; your text is in %s", err, d.path)
}
