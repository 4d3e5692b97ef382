package main

import "strings"

// An operation decodes a request's body, does what it asks for and returns what the reply is made of.
type operation func(c *call, body []byte) (any, error)

// on makes an operation of a method that takes and returns structs as they are on the wire.
func on[In, Out any](do func(*call, *In) (Out, error)) operation {
	return func(c *call, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		return do(c, in)
	}
}

// operations are those of SQS that are served, and RewindQueue, which is ours.
var operations = map[string]operation{
	"CreateQueue":                  on((*call).createQueue),
	"GetQueueUrl":                  on((*call).getQueueURL),
	"ListQueues":                   on((*call).listQueues),
	"ListDeadLetterSourceQueues":   on((*call).listDeadLetterSourceQueues),
	"GetQueueAttributes":           on((*call).getQueueAttributes),
	"SetQueueAttributes":           on((*call).setQueueAttributes),
	"PurgeQueue":                   on((*call).purgeQueue),
	"DeleteQueue":                  on((*call).deleteQueue),
	"RewindQueue":                  on((*call).rewindQueue),
	"SendMessage":                  on((*call).sendMessage),
	"SendMessageBatch":             on((*call).sendMessageBatch),
	"ReceiveMessage":               on((*call).receiveMessage),
	"DeleteMessage":                on((*call).deleteMessage),
	"DeleteMessageBatch":           on((*call).deleteMessageBatch),
	"ChangeMessageVisibility":      on((*call).changeMessageVisibility),
	"ChangeMessageVisibilityBatch": on((*call).changeMessageVisibilityBatch),
}

// unsupported are operations of SQS that are not served: their clients get an error that says so.
var unsupported = map[string]bool{
	"AddPermission": true, "RemovePermission": true, "TagQueue": true, "UntagQueue": true, "ListQueueTags": true,
	"StartMessageMoveTask": true, "CancelMessageMoveTask": true, "ListMessageMoveTasks": true,
}

// operationOf finds an operation by the header X-Amz-Target.
func operationOf(target string) (operation, error) {
	name, ok := strings.CutPrefix(target, targetPrefix)
	if target == "" {
		return nil, refuse("MissingAction", "there is no X-Amz-Target: only the JSON protocol is served, not the query protocol")
	}
	if do := operations[name]; ok && do != nil {
		return do, nil
	}
	if ok && unsupported[name] {
		return nil, refuse("UnsupportedOperation", "%s is not served", name)
	}
	return nil, refuse("UnknownOperationException", "%q is no operation", clip(target))
}
