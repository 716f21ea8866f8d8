package reflection

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
)

// conversation is a stream to the reflection service, on which each question is followed by its answer. It is owned by one
// goroutine.
type conversation struct {
	ctx    context.Context
	stream Stream
	budget budget
	asked  int // questions so far
}

// firstQuestion is the value of conversation.asked while the first answer has not come.
const firstQuestion = 1

// askSymbol asks for the file that defines a symbol. It returns the serialized files of the answer.
func (c *conversation) askSymbol(name string) ([][]byte, error) {
	return c.ask("symbol "+shortened(name), &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name},
	})
}

// askFile asks for a file by its path. It returns the serialized files of the answer.
func (c *conversation) askFile(path string) ([][]byte, error) {
	return c.ask("file "+shortened(path), &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: path},
	})
}

// ask sends the question q and waits for its answer. what describes the question in errors. The messages of v1 are also
// those of v1alpha: only the names of their packages differ, which are not sent.
func (c *conversation) ask(what string, q *reflectionpb.ServerReflectionRequest) ([][]byte, error) {
	c.asked++
	msg, err := proto.Marshal(q)
	if err != nil { // q has the name of an import, which may not be UTF-8
		return nil, &ProtocolError{Asked: what, Err: err}
	}
	sendErr := c.stream.Send(msg)
	// If the endpoint has ended the stream, Send fails too, but the status that Recv returns says why.
	msg, err = c.stream.Recv()
	if sendErr != nil && (err == nil || errors.Is(err, io.EOF)) {
		err = sendErr
	}
	if err != nil {
		return nil, streamError(c.ctx, what, err, c.asked)
	}
	answer, err := c.budget.parseAnswer(msg)
	if err != nil {
		return nil, &ProtocolError{Asked: what, Err: err}
	}
	return filesOf(what, q, answer)
}

// filesOf returns the serialized files of the answer to q.
func filesOf(
	what string, q *reflectionpb.ServerReflectionRequest, answer *reflectionpb.ServerReflectionResponse,
) ([][]byte, error) {
	// Some servers do not repeat the question in the answer. The names of the files are checked in any case.
	if o := answer.GetOriginalRequest(); o.GetMessageRequest() != nil {
		if o.GetFileByFilename() != q.GetFileByFilename() || o.GetFileContainingSymbol() != q.GetFileContainingSymbol() {
			return nil, protocolErrorf(what, "the answer is to another question: %s", cut(o.String()))
		}
	}
	switch r := answer.GetMessageResponse().(type) {
	case *reflectionpb.ServerReflectionResponse_FileDescriptorResponse:
		return r.FileDescriptorResponse.GetFileDescriptorProto(), nil
	case *reflectionpb.ServerReflectionResponse_ErrorResponse:
		code := codes.Code(r.ErrorResponse.GetErrorCode())
		return nil, &AnswerError{Asked: what, Code: code, Message: cut(r.ErrorResponse.GetErrorMessage())}
	}
	return nil, protocolErrorf(what, "the answer has neither files nor an error")
}

// streamError returns the error for a stream that failed with err at the question number asked. If ctx has ended, the error
// says that, because the stream failed for it.
func streamError(ctx context.Context, what string, err error, asked int) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if errors.Is(err, io.EOF) {
		return protocolErrorf(what, "the endpoint ended the stream without an answer")
	}
	if s, ok := status.FromError(err); ok && s.Code() == codes.Unimplemented && asked == firstQuestion {
		return fmt.Errorf("%w: %s: %w", ErrUnimplemented, what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
