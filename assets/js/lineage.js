// Who decided a step of a branch: up to where it left, that was the picture it left.

export function decidedBy(recipe, step) {
  let member = recipe;
  while (member.branch && step < member.branch.step) member = member.branch.parent;
  return member;
}
