// What changes something: the request, the dialog that says before it what it will do, and what is said after it.
//
// Invariant: nothing is changed without a dialog or a form that was sent by a person, and an error is shown as the database says it.

import { el } from './dom.js';

// An error of the server, with the parts that the database gives it.
export class Refusal extends Error
{
	constructor(error)
	{
		super(error.message || 'The console did not answer.');
		this.detail = error.detail;
		this.hint = error.hint;
		this.sqlstate = error.sqlstate;
	}
}

export function readOnly()
{
	return document.body.dataset.readOnly === 'true';
}

// POST `fields` to `path`: the answer, or a Refusal is raised.
export async function post(path, fields)
{
	const body = new URLSearchParams();
	let response, answer;

	for (const [name, value] of Object.entries(fields))
		if (value !== null && value !== undefined && value !== '')
			body.set(name, value);
	try
	{
		response = await fetch(path, {
			method: 'POST',
			headers: { 'X-CSRF-Token': (document.querySelector('meta[name=csrf]') || {}).content || '', Accept: 'application/json' },
			body,
		});
		answer = await response.json().catch(() => null);
	}
	catch (error)
	{
		throw new Refusal({ message: 'No connection to the console: whether it was done is not known. Look before you try again.' });
	}
	if (response.status === 401)
		throw new Refusal({ message: 'The session has ended.', hint: 'Log in again: load the page anew.' });
	if (!response.ok || !answer || answer.error)
		throw new Refusal(answer && answer.error || { message: `The console answered ${response.status}.` });
	return answer;
}

// An action of /api/do.
export function act(action, fields)
{
	return post('/api/do/' + action, fields);
}

// What an error says, as nodes.
export function errorBox(error)
{
	return el('div', { class: 'callout bad', role: 'alert' },
		el('p', null, el('strong', null, error.message)),
		error.detail ? el('p', null, error.detail) : null,
		error.hint ? el('p', null, 'Hint: ' + error.hint) : null,
		error.sqlstate ? el('p', { class: 'quiet' }, 'SQLSTATE ' + error.sqlstate) : null);
}

// Ask before something is done.  `what`: { title, body: nodes or text, confirm: the word on the button, danger, run: does it
// (async; gets the form's data) }.  While it runs the button waits; an error is shown and the dialog stays.  Resolves to what `run` gave, or
// to undefined if the person thought better of it.
export function ask(what)
{
	return new Promise(resolve =>
	{
		const trouble = el('div', null);
		const yes = el('button', { type: 'submit', class: what.danger ? 'danger' : 'primary' }, what.confirm);
		let result;
		const form = el('form', {
			method: 'dialog',
			onsubmit: async event =>
			{
				event.preventDefault();
				if (yes.disabled)
					return;
				yes.disabled = true;
				yes.setAttribute('aria-busy', 'true');
				trouble.replaceChildren();
				try
				{
					result = await what.run(new FormData(form));
					dialog.close();
				}
				catch (error)
				{
					trouble.replaceChildren(errorBox(error));
					yes.disabled = false;
					yes.removeAttribute('aria-busy');
				}
			},
		},
		el('h2', { id: 'dialog-title' }, what.title),
		typeof what.body === 'string' ? el('p', { class: 'says' }, what.body) : what.body,
		trouble,
		el('div', { class: 'row end' },
			el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), yes));
		const dialog = el('dialog', { 'aria-labelledby': 'dialog-title' }, form);

		dialog.addEventListener('close', () =>
		{
			dialog.remove();
			resolve(result);
		});
		document.body.append(dialog);
		dialog.showModal();
		if (!form.querySelector('[autofocus]'))
			yes.focus();
	});
}

// Show something in a dialog that has but one way out.
export function show(title, ...body)
{
	const dialog = el('dialog', { 'aria-labelledby': 'dialog-title' },
		el('form', { method: 'dialog' },
			el('h2', { id: 'dialog-title' }, title), ...body,
			el('div', { class: 'row end' }, el('button', { class: 'primary' }, 'Close'))));

	dialog.addEventListener('close', () => dialog.remove());
	document.body.append(dialog);
	dialog.showModal();
}

// Say something to everybody: seen for a while, and read aloud.
export function say(text)
{
	const place = document.getElementById('say');
	const line = el('p', null, text);

	place.append(line);
	while (place.children.length > 3)
		place.firstChild.remove();
	setTimeout(() => line.remove(), 8000);
}

// Say something to those who do not see it, and would else not know: it is shown elsewhere.  Once in ten seconds, since it may come and go.
let whispered = 0;

export function whisper(text)
{
	if (Date.now() - whispered < 10000)
		return;
	whispered = Date.now();
	document.getElementById('whisper').textContent = text;
}

// What the server said to an action, said on.
export function sayAnswer(answer, otherwise)
{
	const notices = (answer.notice || []).map(n => typeof n === 'string' ? n : n.message);

	say(notices.length > 0 ? notices.join(' ') : otherwise);
}
