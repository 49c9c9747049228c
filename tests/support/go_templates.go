// Renders templates as Ollama does: `.System` and `.Messages`, Go's own text/template.
//
// Reads JSON lines {"template", "messages": [{"Role", "Content"}]}; writes the prompts as JSON lines.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct{ Role, Content string }

type Case struct {
	Template string
	Messages []*Message
}

func main() {
	decoder, encoder := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for decoder.More() {
		var one Case
		if err := decoder.Decode(&one); err != nil {
			panic(err)
		}
		var systems []string
		for _, message := range one.Messages {
			if message.Role == "system" {
				systems = append(systems, message.Content)
			}
		}
		parsed := template.Must(template.New("").Option("missingkey=zero").Parse(one.Template))
		var prompt bytes.Buffer
		values := map[string]any{
			"System":   strings.Join(systems, "\n\n"),
			"Messages": one.Messages,
			"Response": "",
		}
		if err := parsed.Execute(&prompt, values); err != nil {
			panic(err)
		}
		if err := encoder.Encode(prompt.String()); err != nil {
			panic(err)
		}
	}
}
