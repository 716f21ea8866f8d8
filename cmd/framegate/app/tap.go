package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

// defaultAdmin is the URL of the admin server of a framegate with the default configuration.
const defaultAdmin = "http://127.0.0.1:8889"

// maxTapLine bounds a line of the admin server's answer: a message, which is longer in JSON than on the wire.
const maxTapLine = 16 << 20

func newTapCommand() *cobra.Command {
	var admin adminFlags
	var where string
	var count, perSecond int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tap PATTERN",
		Short: "Print live messages of calls",
		Long: `Print live messages of the calls whose method a pattern matches, as a running framegate forwards them: /pkg.Service/Method,
/pkg.Service/*, /pkg.* or *. They are decoded with the schema of the call's route, in struct mode or not, and what its
redact rules hide stays hidden. That framegate must have admin.tap: true. Calls are not slowed down: messages that come
too fast are left out and counted.`,
		Example: `  framegate tap '/shop.Shop/*'
  framegate tap /shop.Shop/Price --where 'message.item == "tea"' --count 10 --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if _, err := spec.ParsePattern(args[0]); err == nil {
					return nil
				}
			}
			return usageErrorf("%s: arguments %q, want one pattern such as /pkg.Service/*", cmd.CommandPath(), args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 {
				return usageErrorf("--count: %d, want 0 or more", count)
			}
			if perSecond < 1 || perSecond > tap.MaxRate {
				return usageErrorf("--rate: %d, want 1 to %d", perSecond, tap.MaxRate)
			}
			u, err := admin.path("/v1/tap")
			if err != nil {
				return err
			}
			query := url.Values{"method": {args[0]}, "rate": {strconv.Itoa(perSecond)}}
			if where != "" {
				query.Set("where", where)
			}
			if count > 0 {
				query.Set("count", strconv.Itoa(count))
			}
			u.RawQuery = query.Encode()
			body, err := admin.open(cmd.Context(), u.String())
			if err != nil {
				return ended(cmd.Context(), err)
			}
			defer body.Close()
			shown, err := printTap(cmd, body, asJSON)
			if err == nil && (count == 0 || shown < count) {
				err = fmt.Errorf("it has ended the tap after %d messages", shown)
			}
			if err != nil {
				return ended(cmd.Context(), fmt.Errorf("admin server at %s: %w", admin.url, err))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&where, "where", "", "CEL condition on messages, with the variables that rules have: message, metadata, method, peer, now, index")
	cmd.Flags().IntVar(&count, "count", 0, "end after so many messages; 0: go on until interrupted")
	cmd.Flags().IntVar(&perSecond, "rate", tap.DefaultRate, "messages a second to print at most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each message")
	admin.register(cmd, defaultAdmin)
	return cmd
}

// ended returns err, or nil if the user has interrupted the command.
func ended(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}

// tapLine is a line of the admin server's answer.
type tapLine struct {
	handler.Shown
	Missed *int64 `json:"missed"` // if not nil, the line has no message, but the number of messages that were left out
}

// printTap prints the messages in the admin server's answer until it ends, and returns their number.
func printTap(cmd *cobra.Command, body io.Reader, asJSON bool) (shown int, err error) {
	in := bufio.NewScanner(body)
	in.Buffer(nil, maxTapLine)
	out := cmd.OutOrStdout()
	for in.Scan() {
		var line tapLine
		if err := json.Unmarshal(in.Bytes(), &line); err != nil {
			return shown, fmt.Errorf("its answer is not that of a framegate: %w", err)
		}
		if line.Missed != nil {
			if *line.Missed > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "framegate: %d messages came too fast and were left out\n", *line.Missed)
			}
			continue
		}
		shown++
		text := string(plain.JSON(in.Bytes()))
		if !asJSON {
			text = shownLine(line.Shown)
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return shown, err
		}
	}
	return shown, in.Err()
}

// shownLine returns a message on one line. Text that comes from peers is made safe for a terminal by package plain.
func shownLine(s handler.Shown) string {
	arrow := "->"
	if s.Direction == spec.OnResponse {
		arrow = "<-"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s #%d %s ", s.Time.Format("15:04:05.000"), arrow, plain.Text(s.Method), s.Index, plain.Text(s.Peer))
	switch {
	case s.Message != nil:
		var compact bytes.Buffer
		if json.Compact(&compact, s.Message) == nil {
			b.Write(plain.JSON(compact.Bytes()))
		}
	case s.Payload != nil:
		fmt.Fprintf(&b, "%d bytes: %x (%s)", s.Length, s.Payload, plain.Text(s.Reason))
	default:
		fmt.Fprintf(&b, "%d bytes (%s)", s.Length, plain.Text(s.Reason))
	}
	return b.String()
}
