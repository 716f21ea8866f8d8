package etcdclient

import (
	"cmp"
	"context"
	"time"
)

// Question says how AskMembers asks. A member of etcd may take requests and answer none, because its disk hangs or it is cut
// off from the others, while its connections look well. So AskMembers sends a request that is to be answered soon again:
// etcd's client sends each request to the next member in turn.
type Question struct {
	Within   time.Duration // bounds the time of all requests together
	Patience time.Duration // from one request to the next, while there is no answer
	Max      int           // bounds the requests; other requests of the client take turns too, so two may go to one member
}

const (
	NextMember  = 150 * time.Millisecond // Patience for requests that a member answers in a few milliseconds
	MaxAsked    = 8                      // Max for such requests
	enoughWrong = 3                      // AskMembers gives up when so many requests have failed and none is under way
)

// AskMembers calls ask again and again, as q says, until a member answers, the time is over or ctx ends. A refusal of etcd is
// an answer, too. It cancels the calls that are still under way then, and waits for them.
func AskMembers[T any](ctx context.Context, q Question, ask func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, q.Within)
	answers := make(chan answer, q.Max)
	asked, ended := 0, 0
	put := func() {
		asked++
		go func() {
			value, err := ask(ctx)
			answers <- answer{value, err}
		}()
	}
	defer func() {
		cancel()
		for ; ended < asked; ended++ {
			<-answers
		}
	}()
	put()
	next := time.NewTicker(q.Patience)
	defer next.Stop()
	var failure error // of the last call that failed
	for {
		select {
		case got := <-answers:
			ended++
			if got.err == nil || IsRefused(got.err) {
				return got.value, got.err
			}
			if failure == nil || ctx.Err() == nil { // an earlier failure says more than that time is up
				failure = got.err
			}
			if ended == asked && ended >= min(enoughWrong, q.Max) {
				return got.value, failure
			}
		case <-next.C:
			if asked < q.Max {
				put()
			}
		case <-ctx.Done():
			var none T
			return none, cmp.Or(failure, ctx.Err())
		}
	}
}
