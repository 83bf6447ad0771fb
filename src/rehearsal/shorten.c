/*-------------------------------------------------------------------------
 *
 * shorten.c
 *	  The text of a plan, made short.
 *
 * The plan of a table with a thousand partitions is thousands of lines in which a
 * few say everything.  So of parts that stand side by side only the first are kept,
 * with what is below them, and of what is still too long the beginning.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "rehearsal/shorten.h"

/* So many parts side by side are kept. */
#define KEPT_PARTS			3
/* Deeper than that nothing is told apart. */
#define DEEPEST				200

typedef struct Shortener
{
	StringInfoData out;
	int			parts[2][DEEPEST];	/* side by side, by kind and indent */
	int			skipped;		/* lines, since the last that was kept */
	int			indent;			/* of the parts that they belong to */
} Shortener;

static void
append_skipped(Shortener *shortener)
{
	if (shortener->skipped > 0)
		appendStringInfo(&shortener->out, "%*s... %d more line%s\n", shortener->indent, "",
						 shortener->skipped, shortener->skipped == 1 ? "" : "s");
	shortener->skipped = 0;
}

/* Whether the line begins a part: a node of the plan, or a table that is written. */
static bool
is_part(const char *line, bool *is_table)
{
	*is_table = strncmp(line, "Update on ", 10) == 0 || strncmp(line, "Delete on ", 10) == 0 ||
		strncmp(line, "Merge on ", 9) == 0;
	return *is_table || strncmp(line, "->", 2) == 0;
}

/* Keep a line, or count it as skipped. */
static void
take_line(Shortener *shortener, const char *line, int length)
{
	int			indent = Min(strspn(line, " "), DEEPEST - 1);
	bool		is_table;

	if (shortener->skipped > 0 && indent > shortener->indent)
	{
		shortener->skipped++;
		return;
	}
	if (is_part(line + indent, &is_table))
	{
		if (++shortener->parts[is_table][indent] > KEPT_PARTS)
		{
			if (indent != shortener->indent)
				append_skipped(shortener);
			shortener->indent = indent;
			shortener->skipped++;
			return;
		}
		/* what is below is not beside what was below the one before */
		for (int i = indent + 1; i < DEEPEST; i++)
			shortener->parts[false][i] = shortener->parts[true][i] = 0;
	}
	append_skipped(shortener);
	appendBinaryStringInfo(&shortener->out, line, length);
	appendStringInfoChar(&shortener->out, '\n');
}

static int
count_lines(const char *text)
{
	int			n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

/* Cut the text off after so many lines, and say how many more there are. */
static void
cut_off(StringInfo text, int lines)
{
	int			more = count_lines(text->data) - lines;
	char	   *end = text->data;

	if (more <= 1)
		return;
	for (int i = 0; i < lines; i++)
		end = strchr(end, '\n') + 1;
	text->len = end - text->data;
	text->data[text->len] = '\0';
	appendStringInfo(text, "... %d more lines\n", more);
}

/*
 * Make what is in the text from there on, a plan as EXPLAIN has it, short if it has
 * more lines than that.
 */
void
shorten_plan(StringInfo text, int from, int lines)
{
	Shortener  *shortener;
	const char *line = text->data + from;

	if (count_lines(line) <= lines)
		return;
	shortener = palloc0(sizeof(Shortener));
	initStringInfo(&shortener->out);
	while (*line)
	{
		int			length = strcspn(line, "\n");

		take_line(shortener, line, length);
		line += length + (line[length] == '\n');
	}
	append_skipped(shortener);
	cut_off(&shortener->out, lines);
	text->len = from;
	appendBinaryStringInfo(text, shortener->out.data, shortener->out.len);
}
