/*-------------------------------------------------------------------------
 *
 * metrics.c
 *	  The text that Prometheus reads.
 *
 * The rows of the view backfill_metrics, in its order, which is the one of the
 * format: all samples of a metric together, the buckets of a histogram by size.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "json.h"
#include "metrics.h"

/* Adds a text with its backslashes, ends of line and, if asked, quotes escaped. */
static void
add_escaped(Text *out, const char *text, bool quotes)
{
	for (; text != NULL && *text; text++)
	{
		if (*text == '\\' || (*text == '"' && quotes))
			text_add_n(out, "\\", 1);
		if (*text == '\n')
			text_add(out, "\\n");
		else
			text_add_n(out, text, 1);
	}
}

/* Bytes of the name of the metric that a sample belongs to. */
static size_t
length_of_family(const char *name, const char *type)
{
	static const char *const endings[] = {"_bucket", "_sum", "_count"};
	size_t		n = strlen(name);

	for (int i = 0; i < 3 && type != NULL && strcmp(type, "histogram") == 0; i++)
	{
		size_t		ending = strlen(endings[i]);

		if (n > ending && strcmp(name + n - ending, endings[i]) == 0)
			return n - ending;
	}
	return n;
}

static void
add_sample(const Json *sample, const char *name, Text *out)
{
	const Json *labels = json_member(sample, "labels");
	const char *value = json_text(sample, "value");
	bool		first = true;

	text_add(out, name);
	for (const Json *label = labels ? labels->child : NULL; label != NULL; label = label->next)
	{
		text_format(out, "%c%s=\"", first ? '{' : ',', label->name);
		add_escaped(out, label->text, true);
		text_add(out, "\"");
		first = false;
	}
	text_format(out, "%s %s\n", first ? "" : "}", value ? value : "NaN");
}

/* Writes the samples that "json" has, as the format has them. */
void
metrics_write(const char *json, Text *out)
{
	Json	   *root = json_parse(json);
	const Json *samples = json_member(root, "samples");
	const char *family = "";
	size_t		family_length = 0;

	for (const Json *sample = samples ? samples->child : NULL; sample != NULL; sample = sample->next)
	{
		const char *name = json_text(sample, "name");
		const char *type = json_text(sample, "type");
		size_t		length;

		if (name == NULL)
			continue;
		length = length_of_family(name, type);
		if (length != family_length || strncmp(name, family, length) != 0)
		{
			text_format(out, "# HELP %.*s ", (int) length, name);
			add_escaped(out, json_text(sample, "help"), false);
			text_format(out, "\n# TYPE %.*s %s\n", (int) length, name, type ? type : "untyped");
			family = name;
			family_length = length;
		}
		add_sample(sample, name, out);
	}
	json_free(root);
}
