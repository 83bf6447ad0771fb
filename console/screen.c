/*-------------------------------------------------------------------------
 *
 * screen.c
 *	  The screens: their paths, and which of them a path is.
 *
 * Paths are matched as they were sent, segment by segment, and each segment is
 * decoded by itself: a name may have any character, a slash included.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "queries.h"
#include "screen.h"

static const char *const query_runs[] = {"tab", "q", "before", NULL};
static const char *const query_list[] = {"status", "before", NULL};
static const char *const query_search[] = {"q", NULL};
static const char *const query_explain[] = {"parameters", "target", "measure", NULL};
static const char *const query_none[] = {NULL};

static const Screen screens[] = {
	{"runs", "runs", query_runs, true, queries_runs},
	{"run", "runs/ID", query_none, true, queries_run},
	{"batches", "runs/ID/batches", query_list, true, queries_batches},
	{"errors", "runs/ID/errors", query_list, true, queries_errors},
	{"events", "runs/ID/events", query_list, true, queries_events},
	{"definitions", "definitions", query_search, true, queries_definitions},
	{"definition", "definitions/NAME", query_none, true, queries_definition},
	{"explain", "definitions/NAME/explain", query_explain, false, queries_explain},
	{"health", "health", query_none, true, queries_health}
};

static const Screen metrics = {"metrics", "", query_none, true, queries_metrics};

/* Digits of a number of a run. */
#define LONGEST_ID 18
#define LONGEST_PART	10				/* digits of the number of a part, and one more */

static void
add_argument(Text *args, const char *name, const char *value)
{
	if (args == NULL)
		return;
	text_add(args, ",");
	text_json(args, name);
	text_add(args, ":");
	text_json(args, value);
}

/* Whether a segment of a path is what the pattern asks for; an argument then. */
static bool
match_segment(const char *pattern, size_t pattern_length, const char *segment, size_t length, Text *args)
{
	char	   *value;
	bool		good;

	if (pattern_length == 2 && strncmp(pattern, "ID", 2) == 0)
		good = length > 0 && length <= LONGEST_ID && strspn(segment, "0123456789") >= length;
	else if (pattern_length == 4 && strncmp(pattern, "NAME", 4) == 0)
		good = length > 0;
	else
		return length == pattern_length && strncmp(segment, pattern, length) == 0;
	if (!good)
		return false;
	value = form_decode(segment, length, false);
	if (value != NULL)
		add_argument(args, pattern_length == 2 ? "id" : "name", value);
	good = value != NULL;
	free(value);
	return good;
}

/* Whether a path, without its first slash, is what the pattern asks for. */
static bool
match(const char *pattern, const char *path, Text *args)
{
	for (;;)
	{
		size_t		p = strcspn(pattern, "/");
		size_t		n = strcspn(path, "/");

		if (!match_segment(pattern, p, path, n, args))
			return false;
		pattern += p;
		path += n;
		if (*pattern == '\0' || *path == '\0')
			return *pattern == *path;
		pattern++;
		path++;
	}
}

/* How many digits the text begins with; 0 if they are too many for a number. */
static size_t
digits(const char *text)
{
	size_t		n = strspn(text, "0123456789");

	return n <= LONGEST_ID ? n : 0;
}

/*
 * Whether a field may have a value: "before" is a number, and may have that of a part of a
 * batch behind it, and then the name of a stream: 17, 17.2, 17.0.europe.
 */
static bool
is_good_value(const char *name, const char *value)
{
	size_t		n;

	if (strcmp(name, "before") != 0 || *value == '\0')
		return true;
	n = digits(value);
	if (n == 0 || value[n] != '.')
		return n > 0 && value[n] == '\0';
	value += n + 1;
	n = digits(value);
	return n > 0 && n < LONGEST_PART && (value[n] == '\0' || value[n] == '.');
}

/* Adds the fields of the query that the screen knows; false if it is no query. */
static bool
add_query(const Screen *screen, const char *query, Text *args)
{
	Form		form;
	bool		good = form_parse(&form, query, strlen(query));

	for (int i = 0; good && screen->query[i] != NULL; i++)
	{
		const char *value = form_value(&form, screen->query[i]);

		if (value != NULL && !is_good_value(screen->query[i], value))
			good = false;
		else if (value != NULL)
			add_argument(args, screen->query[i], value);
	}
	form_free(&form);
	return good;
}

/*
 * The screen of a path and a query, both as they were sent, or NULL.  Its arguments
 * are added to "args", members of a JSON object with a comma before each.
 */
const Screen *
screen_find(const char *path, const char *query, Text *args)
{
	if (*path != '/')
		return NULL;
	for (size_t i = 0; i < sizeof(screens) / sizeof(screens[0]); i++)
	{
		size_t		length = args ? args->length : 0;

		if (match(screens[i].pattern, path + 1, args))
			return add_query(&screens[i], query, args) ? &screens[i] : NULL;
		if (args != NULL)
		{
			args->length = length;
			args->data[length] = '\0';
		}
	}
	return NULL;
}

/* What /metrics is made of. */
const Screen *
screen_metrics(void)
{
	return &metrics;
}
