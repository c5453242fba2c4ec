"""A process that answers like the one that draws, without models."""

# Draws "slow" for as long as it is not stopped; "deaf" hears nothing.
STUB = """
import json, os, queue, sys, threading
questions, stops = queue.Queue(), set()
def read():
    for line in sys.stdin:
        question = json.loads(line)
        stops.add(question["of"]) if question["ask"] == "stop" else questions.put(question)
    questions.put(None)
threading.Thread(target=read, daemon=True).start()
def say(number, **record):
    print(json.dumps({"id": number, **record}), flush=True)
while question := questions.get():
    number, prompt = question["id"], question.get("request", {}).get("prompt", "")
    progress = {"event": "Progress", "what": "drawing pictures", "done": 1, "total": 2}
    say(number, told=progress)
    if question.get("previews"):
        path = os.path.join(question["previews"], "0.png")
        open(path, "w").close()
        say(number, told={"event": "Preview", "path": path, "place": 0, "version": "1"})
    while prompt == "slow" and number not in stops or prompt == "deaf":
        pass
    if prompt == "wrong":
        say(number, problems=[{"where": "steps", "what": "too many", "hint": ""}])
    elif prompt == "die":
        sys.exit("out of memory")
    elif number in stops:
        say(number, stopped="stopped; no picture was finished")
    else:
        say(number, told={"event": "PictureDrawn", "path": f"/out/{number}.png"})
        say(number, answer={"images": [f"/out/{number}.png"], "pid": os.getpid()})
"""
